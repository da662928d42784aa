# Cameras of GigE Vision and USB3 Vision, and cameras at the connector of a board that libcamera drives, such as
# the Raspberry Pi. libcamera-gst is only built with  PACKAGECONFIG:append:pn-libcamera = " gst".
PACKAGES += "${PN}-genicam ${PN}-libcamera"

RDEPENDS:${PN}-genicam = "aravis"
RDEPENDS:${PN}-libcamera = "libcamera libcamera-gst"
