# Building for 64-bit ARM on a PC: compiler, libraries, cargo's settings. Read by scripts/cross-aarch64 and
# scripts/cuda, which stand in the repository's root.

arm_target=aarch64-unknown-linux-gnu
arm_cache=${XDG_CACHE_HOME:-$HOME/.cache}/inspectd/arm64
arm_root=$arm_cache/root
arm_libraries=$arm_root/usr/lib/aarch64-linux-gnu

arm_host_packages=(gcc-aarch64-linux-gnu g++-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user-static pkg-config
  python3-numpy)
arm_packages=(libc6-dev libgstreamer1.0-dev libgstreamer-plugins-base1.0-dev libgstrtspserver-1.0-dev
  gstreamer1.0-plugins-base gstreamer1.0-plugins-good)

# A sources file that serves ARM packages; empty: the machine's own.
arm_sources=${arm_sources:-}

install_cross() {
  local missing=() package
  for package in "${arm_host_packages[@]}"; do
    # numpy may be there by other means than a package.
    [ "$package" = python3-numpy ] && python3 -c 'import numpy' 2>/dev/null && continue
    [ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
  done
  if [ "${#missing[@]}" -gt 0 ]; then
    echo "Installing: ${missing[*]}" >&2
    local become=()
    [ "$(id -u)" = 0 ] || become=(sudo)
    "${become[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}" >&2
  fi
  if ! [ -d "$(rustc --print sysroot)/lib/rustlib/$arm_target/lib" ]; then
    command -v rustup >/dev/null || {
      echo "Rust's library for $arm_target is missing, and there is no rustup to fetch it." >&2
      echo "Install Rust with rustup, or the distribution's libstd-rust-dev for arm64." >&2
      exit 1
    }
    rustup target add "$arm_target" >&2
  fi
}

# The machine's own package sources, without those of others (which may not serve ARM).
find_sources() {
  [ -n "$arm_sources" ] && return
  local name
  for name in debian.sources ubuntu.sources; do
    [ -r "/etc/apt/sources.list.d/$name" ] && arm_sources=/etc/apt/sources.list.d/$name
  done
  [ -n "$arm_sources" ] || arm_sources=/etc/apt/sources.list
  if [ "$(. /etc/os-release && echo "$ID")" != debian ]; then
    echo "The ARM packages of this distribution may lie elsewhere than those of this machine." >&2
    echo "Give a sources file that serves arm64:  scripts/cross-aarch64 --sysroot --sources FILE" >&2
    exit 1
  fi
}

# An apt whose every state is private: it thinks of an empty arm64 machine, and only downloads.
private_apt() {
  local state=$arm_cache/apt
  mkdir -p "$state/lists/partial" "$state/archives/partial" "$state/none"
  touch "$state/status"
  apt-get -qq -y -o APT::Architecture=arm64 -o APT::Architectures=arm64 \
    -o Dir::State="$state" -o Dir::State::lists="$state/lists" -o Dir::State::status="$state/status" \
    -o Dir::Cache="$state" -o Dir::Cache::archives="$state/archives" \
    -o Dir::Etc::sourcelist="$1" -o Dir::Etc::sourceparts="$state/none" \
    -o APT::Install-Recommends=false -o APT::Sandbox::User= -o Debug::NoLocking=1 "${@:2}" >&2
}

make_sysroot() {
  local file=$arm_cache/sources archive link
  if [ "$(cat "$arm_root/made-of" 2>/dev/null)" = "${arm_packages[*]}" ]; then return; fi
  find_sources
  echo "Fetching the ARM libraries" >&2
  mkdir -p "$arm_cache"
  # apt tells the two forms of a sources file apart by the ending of its name.
  case $arm_sources in *.sources) file=$file.sources ;; *) file=$file.list ;; esac
  cp "$arm_sources" "$file"
  private_apt "$file" update
  private_apt "$file" install --download-only "${arm_packages[@]}"

  rm -rf "$arm_root" "$arm_root.part"
  mkdir -p "$arm_root.part/usr/lib" "$arm_root.part/usr/bin" "$arm_root.part/usr/sbin"
  for link in lib bin sbin; do ln -s "usr/$link" "$arm_root.part/$link"; done
  for archive in "$arm_cache/apt/archives/"*.deb; do
    dpkg-deb --fsys-tarfile "$archive" |
      tar -x -C "$arm_root.part" --keep-directory-symlink --no-same-owner --exclude='./usr/share/doc' --exclude='./usr/share/locale' --exclude='./dev'
  done
  # Links that begin at / would lead into this machine.
  find "$arm_root.part" -type l -lname '/*' | while read -r link; do
    ln -sfr "$arm_root.part$(readlink "$link")" "$link"
  done
  echo "${arm_packages[*]}" >"$arm_root.part/made-of"
  mv "$arm_root.part" "$arm_root"
  rm -rf "$arm_cache/apt/archives"
}

cross_cargo() {
  CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc \
    CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUSTFLAGS="-C link-arg=--sysroot=$arm_root -C link-arg=-L$arm_libraries -C link-arg=-Wl,-rpath-link,$arm_libraries" \
    CC_aarch64_unknown_linux_gnu=aarch64-linux-gnu-gcc CXX_aarch64_unknown_linux_gnu=aarch64-linux-gnu-g++ \
    AR_aarch64_unknown_linux_gnu=aarch64-linux-gnu-ar \
    PKG_CONFIG_ALLOW_CROSS=1 PKG_CONFIG_SYSROOT_DIR=$arm_root \
    PKG_CONFIG_LIBDIR=$arm_libraries/pkgconfig:$arm_root/usr/share/pkgconfig \
    cargo "$1" --locked --target "$arm_target" "${@:2}"
}
