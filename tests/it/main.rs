//! Integration tests: one binary, one module a subject. Real files, real SQLite, a real broker, real
//! pipelines; everything is started by the test on loopback and stopped by it.

// Help functions of tests, too, may stop at the first thing that is not as it should be.
#![allow(clippy::unwrap_used)]

mod accuracy;
mod adapters;
mod architecture;
mod backup;
mod bench;
mod calibration;
mod calibration_use;
#[cfg(feature = "gst")]
mod camera;
mod camera_command;
#[cfg(feature = "gst")]
mod capacity;
mod chain;
mod chain_events;
mod cli;
#[cfg(feature = "gst")]
mod clips;
mod config;
mod delivery_model;
mod export;
#[cfg(feature = "fault-points")]
mod faults;
mod faults_clock;
#[cfg(feature = "fault-points")]
mod faults_store;
mod fetch;
#[cfg(feature = "gst")]
mod footage;
mod full_disk;
mod fuzz;
#[cfg(feature = "gst")]
mod genicam;
mod gguf;
mod grammar;
mod handbook;
mod hard;
mod hard_model;
#[cfg(feature = "gst")]
mod line;
mod merge;
mod monitoring;
mod mqtt;
mod mqtt_5;
mod mqtt_inbox;
mod mqtt_late;
mod mqtt_tls;
mod outbox_model;
mod overload;
mod photo_eye;
mod pipeline;
mod plc;
mod provenance;
mod quality;
mod quantize;
mod recover;
mod reload;
mod reload_at_random;
mod reload_broker;
mod remote;
mod replay;
mod retention;
#[cfg(feature = "gst")]
mod rtsp;
#[cfg(feature = "gst")]
mod rtsp_cuts;
mod schemas;
mod serial;
mod service;
mod several;
#[cfg(feature = "gst")]
mod shift;
mod signed;
mod sparkplug;
mod stations;
mod store;
mod support;
mod traces;
mod trigger;
mod upstream;
mod vlm_35;
mod vlm_load;
mod vlm_lora;
mod vlm_precision;
mod vlm_reference;
mod vlm_session;
mod yocto;
