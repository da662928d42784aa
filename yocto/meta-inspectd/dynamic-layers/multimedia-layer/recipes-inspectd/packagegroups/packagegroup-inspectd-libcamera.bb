SUMMARY = "Cameras at the connector of a Raspberry Pi, and others that libcamera drives"
DESCRIPTION = "libcamera-gst is only there with PACKAGECONFIG:append:pn-libcamera = ' gst'."
SECTION = "base"
LICENSE = "Apache-2.0"

# A library's package is renamed after its version, which a group for all architectures may not name.
PACKAGE_ARCH = "${TUNE_PKGARCH}"

inherit packagegroup

RDEPENDS:${PN} = "libcamera libcamera-gst"
