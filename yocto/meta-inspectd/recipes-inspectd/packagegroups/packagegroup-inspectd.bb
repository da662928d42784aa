SUMMARY = "inspectd, and what it needs for its kinds of cameras"
DESCRIPTION = "The group itself is the program, with certificates for brokers with TLS. -video-codecs adds H.264 and \
H.265 in software and lossless footage, -try the example configuration and the small model."
SECTION = "base"
LICENSE = "Apache-2.0"

inherit packagegroup

PACKAGES = "${PN} ${PN}-try ${PN}-video-codecs"

# ffmpeg's licence flag is "commercial", as patents may have to be paid for. Where it is not accepted the group is
# empty, rather than the image impossible to build.
INSPECTD_LIBAV = "${@bb.utils.contains_any('LICENSE_FLAGS_ACCEPTED', 'commercial commercial_gstreamer1.0-libav', 'gstreamer1.0-libav', '', d)}"

RDEPENDS:${PN} = "ca-certificates inspectd tzdata"
RDEPENDS:${PN}-try = "inspectd-builtin-model inspectd-examples"
RDEPENDS:${PN}-video-codecs = "${INSPECTD_LIBAV}"
