#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| inspectd_fuzz::engine_reply(bytes));
