#![no_main]

// The loader turns the library's panics into errors: the fuzzer's hook would end the process before. A panic
// that is not caught there ends it all the same.
libfuzzer_sys::fuzz_target!(init: std::panic::set_hook(Box::new(|_| ())), |bytes: &[u8]| {
    inspectd_fuzz::tokenizer(bytes);
});
