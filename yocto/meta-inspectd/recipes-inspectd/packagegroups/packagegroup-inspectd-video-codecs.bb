SUMMARY = "H.264 and H.265 of network cameras in software, and lossless footage"
DESCRIPTION = "ffmpeg's licence flag is commercial, as patents may have to be paid for. Where it is not accepted the \
group is empty, rather than the image impossible to build."
SECTION = "base"
LICENSE = "Apache-2.0"

inherit packagegroup

INSPECTD_LIBAV = "${@bb.utils.contains_any('LICENSE_FLAGS_ACCEPTED', 'commercial commercial_gstreamer1.0-libav', 'gstreamer1.0-libav', '', d)}"
RDEPENDS:${PN} = "${INSPECTD_LIBAV}"
