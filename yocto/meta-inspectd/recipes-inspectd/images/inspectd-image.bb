SUMMARY = "A small image that inspects: a base system, inspectd, SSH"
DESCRIPTION = "An example to start from. A product takes the group -try away and brings its INSPECTD_CONFIG."
SECTION = "images"
LICENSE = "Apache-2.0"

inherit core-image

IMAGE_FEATURES += "ssh-server-openssh"

# What a board adds: inspectd-data, packagegroup-inspectd-libcamera, -genicam, -broker.
INSPECTD_IMAGE_EXTRA ?= ""
IMAGE_INSTALL:append = " \
    packagegroup-inspectd \
    packagegroup-inspectd-try \
    packagegroup-inspectd-video-codecs \
    ${INSPECTD_IMAGE_EXTRA} \
"
