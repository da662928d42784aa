//! Pictures that are cut short before they are decoded. USB and network cameras send JPEG whose end
//! was lost; the decoder fills what is missing with grey and says nothing.

use std::sync::Arc;

use gstreamer as gst;
use gstreamer::prelude::*;

use super::slot::Slot;
use crate::frame::file::is_torn_jpeg;

/// Drops and counts pictures without an end, before whichever JPEG decoder the pipeline gets.
pub(super) fn watch(pipeline: &gst::Pipeline, slot: &Arc<Slot>) {
    let slot = Arc::downgrade(slot);
    let guard = move |element: &gst::Element| {
        let is_decoder = |factory: gst::ElementFactory| {
            factory.has_type(gst::ElementFactoryType::DECODER) && decodes_jpeg(&factory)
        };
        if !element.factory().is_some_and(is_decoder) {
            return;
        }
        let Some(pad) = element.static_pad("sink") else { return };
        let slot = slot.clone();
        pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
            let whole = info.buffer().and_then(|buffer| buffer.map_readable().ok());
            if whole.is_none_or(|bytes| !is_torn_jpeg(&bytes)) {
                return gst::PadProbeReturn::Ok;
            }
            if let Some(slot) = slot.upgrade() {
                slot.spoil_partial();
            }
            gst::PadProbeReturn::Drop
        });
    };
    // Those that a text names are there already; those that decodebin chooses come later.
    for element in pipeline.iterate_recurse().into_iter().flatten() {
        guard(&element);
    }
    pipeline.connect_deep_element_added(move |_, _, element| guard(element));
}

fn decodes_jpeg(factory: &gst::ElementFactory) -> bool {
    let takes_jpeg = |template: &gst::StaticPadTemplate| {
        template.direction() == gst::PadDirection::Sink
            && template.caps().iter().any(|caps| caps.name() == "image/jpeg")
    };
    factory.static_pad_templates().iter().any(takes_jpeg)
}
