SUMMARY = "Cameras of GigE Vision and USB3 Vision"
DESCRIPTION = "The library that inspectd speaks to GenICam cameras with."
SECTION = "base"
LICENSE = "Apache-2.0"

# A library's package is renamed after its version, which a group for all architectures may not name.
PACKAGE_ARCH = "${TUNE_PKGARCH}"

inherit packagegroup

RDEPENDS:${PN} = "aravis"
