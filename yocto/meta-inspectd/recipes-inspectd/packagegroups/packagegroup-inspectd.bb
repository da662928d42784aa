SUMMARY = "inspectd, and what it needs for its kinds of cameras"

inherit packagegroup

# Split by what a site may not want: what is in no group of its own comes with the program.
PACKAGES = " \
    ${PN} \
    ${PN}-video-codecs \
    ${PN}-try \
"

SUMMARY:${PN} = "The program, and certificates for brokers with TLS"
RDEPENDS:${PN} = " \
    ca-certificates \
    inspectd \
    tzdata \
"

# ffmpeg's licence flag is "commercial", as patents may have to be paid for; without LICENSE_FLAGS_ACCEPTED the
# group is empty rather than the image unbuildable.
SUMMARY:${PN}-video-codecs = "H.264 and H.265 of network cameras in software, and lossless footage (FFV1)"
ALLOW_EMPTY:${PN}-video-codecs = "1"
INSPECTD_LIBAV = "${@bb.utils.contains_any('LICENSE_FLAGS_ACCEPTED', 'commercial commercial_gstreamer1.0-libav', 'gstreamer1.0-libav', '', d)}"
RDEPENDS:${PN}-video-codecs = "${INSPECTD_LIBAV}"

SUMMARY:${PN}-try = "Example configuration and the small model"
RDEPENDS:${PN}-try = " \
    inspectd-builtin-model \
    inspectd-examples \
"
