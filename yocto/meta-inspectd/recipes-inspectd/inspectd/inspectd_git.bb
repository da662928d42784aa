SUMMARY = "Inspects parts on a production line with a vision-language model, on the device"
DESCRIPTION = "A daemon that looks at each part which passes a camera, asks a vision-language model about it, \
judges the answer by rules, keeps the record and tells the line."
SECTION = "console/utils"
# The program's own, and that of the fonts which its simulated labels are set in.
LICENSE = "Apache-2.0 & Bitstream-Vera"
LIC_FILES_CHKSUM = " \
    file://LICENSE;md5=22a53954e4e0ec258dfce4391e905dac \
    file://src/simulate/assets/DejaVu-LICENCE.txt;md5=92d02e5b79d3e43831f7453edfe927cc \
"

PV = "0.1.0+git"

# The commit of the checkout that this layer lies in. A site with a mirror of the source sets INSPECTD_SRC_URI
# and SRCREV instead.
INSPECTD_SRC_URI ?= "git://${INSPECTD_CHECKOUT};protocol=file;usehead=1"
# Configuration of a site: the name of a folder with inspectd.toml and stations/, which a bbappend finds by
# FILESEXTRAPATHS. Without one the service is installed and not enabled: there would be nothing to start.
INSPECTD_CONFIG ?= ""
# nooelint: oelint.vars.srcurioptions - usehead implies nobranch
SRC_URI = " \
    ${INSPECTD_SRC_URI} \
    ${@'file://' + d.getVar('INSPECTD_CONFIG') if d.getVar('INSPECTD_CONFIG') else ''} \
"
# nooelint: oelint.vars.autorev - the checkout's HEAD, which is pinned with the layer
SRCREV ?= "${AUTOREV}"

# Every crate of Cargo.lock with its SHA-256; `scripts/yocto crates` writes it.
require inspectd-crates.inc

inherit cargo pkgconfig systemd useradd bash-completion features_check qemu

REQUIRED_DISTRO_FEATURES = "systemd"

# The program's features one by one, so that a new default of Cargo.toml does not slip in unseen.
PACKAGECONFIG ??= " \
    gst parquet \
    ${@bb.utils.contains('MACHINE_FEATURES', 'qemu-usermode', 'docs', '', d)} \
"
PACKAGECONFIG[gst] = "--features=gst,,glib-2.0 gstreamer1.0 gstreamer1.0-plugins-base,${INSPECTD_PLUGINS},${INSPECTD_MORE_PLUGINS}"
PACKAGECONFIG[parquet] = "--features=parquet,"
PACKAGECONFIG[demo-broker] = "--features=demo-broker,"
# Manual pages and completions are written by the program itself, which runs under qemu for it. One with CUDA
# would not start there.
PACKAGECONFIG[docs] = ",,qemu-native"

CARGO_BUILD_FLAGS += "--no-default-features --bin inspectd"

# Without these the program reads folders of pictures and nothing else.
INSPECTD_PLUGINS = " \
    gstreamer1.0-plugins-base-app \
    gstreamer1.0-plugins-base-playback \
    gstreamer1.0-plugins-base-typefindfunctions \
    gstreamer1.0-plugins-base-videoconvertscale \
    gstreamer1.0-plugins-good-jpeg \
"
# Kinds of cameras and footage; an image may leave them out one by one (BAD_RECOMMENDATIONS).
INSPECTD_MORE_PLUGINS = " \
    gstreamer1.0-plugins-base-videorate \
    gstreamer1.0-plugins-good-avi \
    gstreamer1.0-plugins-good-isomp4 \
    gstreamer1.0-plugins-good-matroska \
    gstreamer1.0-plugins-good-multifile \
    gstreamer1.0-plugins-good-png \
    gstreamer1.0-plugins-good-rtp \
    gstreamer1.0-plugins-good-rtpmanager \
    gstreamer1.0-plugins-good-rtsp \
    gstreamer1.0-plugins-good-udp \
    gstreamer1.0-plugins-good-video4linux2 \
    gstreamer1.0-plugins-good-videocrop \
    gstreamer1.0-plugins-bad-bayer \
    gstreamer1.0-plugins-bad-jpegformat \
    gstreamer1.0-plugins-bad-videoparsersbad \
"

SYSTEMD_SERVICE:${PN} = "inspectd.service inspectd.socket"
SYSTEMD_AUTO_ENABLE = "${@'enable' if d.getVar('INSPECTD_CONFIG') else 'disable'}"

# OpenEmbedded makes users with the image, so that a read-only root has them and files can belong to them. The
# project's sysusers file is installed as well: a board that keeps its /etc over an update gets the user from it.
USERADD_PACKAGES = "${PN}"
GROUPADD_PARAM:${PN} = "--system inspectd"
USERADD_PARAM:${PN} = "--system --gid inspectd --groups video --home-dir ${localstatedir}/lib/inspectd \
    --no-create-home --shell /sbin/nologin --comment 'Inspection of parts' inspectd"

# nooelint: oelint.task.noanonpython - skipping a recipe is done in no other way
python () {
    rust = (d.getVar("RUSTVERSION") or "").rstrip("%")
    if rust and bb.utils.vercmp_string_op(rust, "1.92", "<"):
        raise bb.parse.SkipRecipe("it needs Rust 1.92 or newer and RUSTVERSION is %s: "
                                  "build with wrynose, or with a layer that brings a newer Rust" % rust)
}

# Runs the program that was just built, with the libraries that it was linked with.
run_inspectd() {
    ${@qemu_wrapper_cmdline(d, d.getVar('STAGING_DIR_HOST'), [d.expand('${STAGING_DIR_HOST}${libdir}'), d.expand('${STAGING_DIR_HOST}${base_libdir}')])} \
        ${B}/target/${CARGO_TARGET_SUBDIR}/inspectd "$@"
}

do_install() {
    install -D -m 0755 ${B}/target/${CARGO_TARGET_SUBDIR}/inspectd ${D}${bindir}/inspectd

    install -d ${D}${systemd_system_unitdir} ${D}${nonarch_libdir}/sysusers.d ${D}${nonarch_libdir}/tmpfiles.d
    for unit in ${SYSTEMD_SERVICE:${PN}}; do
        install -m 0644 ${S}/systemd/$unit ${D}${systemd_system_unitdir}/
    done
    for kind in sysusers tmpfiles; do
        for file in ${S}/systemd/*.$kind; do
            [ ! -e $file ] || install -m 0644 $file ${D}${nonarch_libdir}/$kind.d/$(basename $file .$kind).conf
        done
    done

    # As the tmpfiles of the project have it: an image with a read-only root gets it from here.
    install -d ${D}${sysconfdir}/inspectd/stations
    install -d -m 0700 ${D}${sysconfdir}/inspectd/credentials
    if [ -n "${INSPECTD_CONFIG}" ]; then
        cp -r --no-preserve=ownership ${UNPACKDIR}/${INSPECTD_CONFIG}/. ${D}${sysconfdir}/inspectd/
        chmod -R u=rwX,go=rX ${D}${sysconfdir}/inspectd
        chmod -R u=rwX,go= ${D}${sysconfdir}/inspectd/credentials
    fi

    # The example configuration names the model by ../models/builtin, and finds it. Drop-ins lie beside the units.
    install -d ${D}${datadir}/inspectd/models
    cp -r --no-preserve=ownership ${S}/config ${D}${datadir}/inspectd/config
    cp -r --no-preserve=ownership ${S}/systemd ${D}${datadir}/inspectd/systemd
    cp -r --no-preserve=ownership ${S}/models/builtin ${D}${datadir}/inspectd/models/builtin

    if ${@bb.utils.contains('PACKAGECONFIG', 'docs', 'true', 'false', d)}; then
        install -d ${D}${datadir}/bash-completion/completions
        run_inspectd completions bash > ${D}${datadir}/bash-completion/completions/inspectd
        run_inspectd man ${D}${mandir}/man1
    fi
}

# The small model knows the simulator's parts alone: for trying an image out, not for a line.
PACKAGES =+ "${PN}-examples ${PN}-builtin-model"
FILES:${PN} += "${systemd_system_unitdir} ${nonarch_libdir}/sysusers.d ${nonarch_libdir}/tmpfiles.d"
FILES:${PN}-examples += "${datadir}/inspectd/config ${datadir}/inspectd/systemd"
FILES:${PN}-builtin-model += "${datadir}/inspectd/models"
RDEPENDS:${PN}-examples = "${PN} ${PN}-builtin-model"

CONFFILES:${PN} = "${sysconfdir}/inspectd"
