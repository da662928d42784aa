//! Integration tests: one binary, one module a subject. Real files, real SQLite, a real broker, real
//! pipelines; everything is started by the test on loopback and stopped by it.

mod architecture;
mod cli;
mod pipeline;
mod support;
