SUMMARY = "A small image that inspects: a base system, inspectd, SSH"
LICENSE = "Apache-2.0"

inherit core-image

# An example to start from. A product removes the group -try and adds its INSPECTD_CONFIG.
IMAGE_FEATURES += "ssh-server-openssh"
IMAGE_INSTALL:append = " \
    packagegroup-inspectd \
    packagegroup-inspectd-video-codecs \
    packagegroup-inspectd-try \
    ${INSPECTD_IMAGE_EXTRA} \
"
# What a board adds: inspectd-data, packagegroup-inspectd-libcamera, -genicam, -broker.
INSPECTD_IMAGE_EXTRA ?= ""
