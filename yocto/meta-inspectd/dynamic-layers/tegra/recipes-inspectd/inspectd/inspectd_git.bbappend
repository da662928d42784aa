# On a Jetson the program computes on the GPU, and reaches cameras and decoders by NVIDIA's elements.

PACKAGECONFIG:append:cuda = " cuda"
# A program with CUDA does not start where the driver's library is missing, as under qemu.
PACKAGECONFIG:remove:cuda = "docs"
PACKAGECONFIG[cuda] = "--features=cuda,,cuda-driver cuda-cudart libcublas libcurand cuda-nvrtc"

PACKAGE_ARCH:tegra = "${TEGRA_PKGARCH}"

inherit_defer ${@bb.utils.contains('PACKAGECONFIG', 'cuda', 'cuda', '', d)}

# nvcc itself is found on PATH, the libraries by CUDA_PATH; the class sets both.
export CUDA_COMPUTE_CAP = "${TEGRA_CUDA_ARCHITECTURE}"
# The kernels are compiled by a build script, which asks for the host compiler's name, and knows nothing of
# this system's root, headers and flags. nvcc reads those from the environment, before its own arguments.
export NVCC_CCBIN = "${CUDAHOSTCXX}"
export NVCC_PREPEND_FLAGS = "${CUDA_NVCC_COMPAT_FLAGS} ${CUDA_NVCC_PATH_FLAGS} ${CUDA_NVCC_EXTRA_FLAGS} ${CUDA_NVCC_PREFIX_MAP_FLAGS} ${@cuda_extract_compiler('CXX_FOR_CUDA', d)[1] if bb.data.inherits_class('cuda', d) else ''}"
# One kernel takes up to 2 GB while it is compiled.
INSPECTD_KERNELS_AT_ONCE ?= "2"
export CUDAFORGE_THREADS = "${INSPECTD_KERNELS_AT_ONCE}"

# Without nvvidconv no picture of a network camera comes out of the decoder's memory.
RDEPENDS:${PN}:append:tegra = " gstreamer1.0-plugins-nvvidconv"
RRECOMMENDS:${PN}:append:tegra = " \
    gstreamer1.0-plugins-nvarguscamerasrc \
    gstreamer1.0-plugins-nvvideo4linux2 \
"

do_install:append:tegra() {
    install -D -m 0644 ${S}/systemd/drop-ins/jetson.conf ${D}${systemd_system_unitdir}/inspectd.service.d/10-jetson.conf
}
