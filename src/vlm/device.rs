//! Where the model computes: the CPU or an NVIDIA GPU; what was wished and what was found.
//!
//! A wish for a GPU that is not there is refused; only `auto` may end on the CPU, and then it says
//! so. Choosing is a pure function; what asks the driver is at the end of the file and
//! exists in builds with the feature `cuda` only.

use std::fmt;
use std::str::FromStr;

use candle_core::{DType, Device};

use super::error::LoadError;

/// Which device is wished.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceWish {
    /// The first GPU, if this build and this machine have one; else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// The GPU of this number, from 0. Without it the model is not loaded.
    Cuda(usize),
}

/// In which form the model's numbers are held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// F32 on the CPU, Bf16 on a GPU: what each computes fast and without surprises.
    #[default]
    Auto,
    /// 32 bits.
    F32,
    /// 16 bits with the range of 32.
    Bf16,
    /// 16 bits, IEEE.
    F16,
}

/// A device that is ready to compute.
#[derive(Clone, Debug)]
pub struct Placement {
    /// The device.
    pub device: Device,
    /// Why it is the CPU though a GPU was hoped for; to be told to the operator.
    pub fallback: Option<String>,
}

/// Why no GPU can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Missing {
    /// This build cannot talk to GPUs.
    NotBuilt,
    /// The driver refuses, in its own words.
    Driver(String),
    /// The driver knows no GPU.
    NoGpu,
}

/// Finds the wished device and opens it.
///
/// # Errors
/// [`LoadError::Option`] if a GPU was asked for by name and cannot be had, with the remedy.
pub fn find(wish: DeviceWish) -> Result<Placement, LoadError> {
    let gpus = if wish == DeviceWish::Cpu { Ok(0) } else { driver::gpus() };
    let (number, fallback) = choose(wish, &gpus)?;
    let Some(number) = number else { return Ok(Placement { device: Device::Cpu, fallback }) };
    match Device::new_cuda(number) {
        Ok(device) => Ok(Placement { device, fallback: None }),
        // The driver counts a GPU that then cannot be opened: in use by others, or broken.
        Err(error) => {
            let (_, fallback) = choose(wish, &Err(Missing::Driver(first_line(&error))))?;
            Ok(Placement { device: Device::Cpu, fallback })
        }
    }
}

/// The number of the GPU to take (`None`: the CPU), and what the operator must be told.
fn choose(
    wish: DeviceWish,
    gpus: &Result<usize, Missing>,
) -> Result<(Option<usize>, Option<String>), LoadError> {
    let missing = match gpus {
        Ok(0) => &Missing::NoGpu,
        Ok(_) if wish == DeviceWish::Auto => return Ok((Some(0), None)),
        Ok(count) => match wish {
            DeviceWish::Cuda(number) if number < *count => return Ok((Some(number), None)),
            DeviceWish::Cuda(number) => return Err(refuse(number, &beyond(*count))),
            _ => return Ok((None, None)),
        },
        Err(missing) => missing,
    };
    match (wish, missing) {
        (DeviceWish::Cuda(number), missing) => Err(refuse(number, &missing.to_string())),
        (DeviceWish::Cpu, _) | (DeviceWish::Auto, Missing::NotBuilt) => Ok((None, None)),
        (DeviceWish::Auto, missing) => Ok((None, Some(missing.to_string()))),
    }
}

fn beyond(count: usize) -> String {
    match count {
        1 => "this machine has one GPU; choose \"cuda:0\"".to_string(),
        _ => format!("this machine has {count} GPUs; choose \"cuda:0\" to \"cuda:{}\"", count - 1),
    }
}

fn refuse(number: usize, problem: &str) -> LoadError {
    LoadError::Option { option: "device", problem: format!("cuda:{number}: {problem}") }
}

/// Errors of the tensor library may carry a backtrace.
fn first_line(error: &candle_core::Error) -> String {
    error.to_string().lines().next().unwrap_or_default().to_string()
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Missing::NotBuilt => f.write_str(
                "this build has no CUDA; use the program inspectd-cuda, or choose \"cpu\"",
            ),
            Missing::Driver(words) => write!(
                f,
                "the NVIDIA driver answers \"{words}\"; check with nvidia-smi, update the driver, or choose \"cpu\""
            ),
            Missing::NoGpu => f.write_str(
                "the NVIDIA driver knows no GPU; check with nvidia-smi, or choose \"cpu\"",
            ),
        }
    }
}

impl FromStr for DeviceWish {
    type Err = String;

    /// Reads `auto`, `cpu`, `cuda` (the first GPU) or `cuda:N`.
    fn from_str(text: &str) -> Result<DeviceWish, String> {
        let unknown = || format!("\"{text}\" is none of auto, cpu, cuda and cuda:N");
        match text {
            "auto" => Ok(DeviceWish::Auto),
            "cpu" => Ok(DeviceWish::Cpu),
            "cuda" => Ok(DeviceWish::Cuda(0)),
            _ => {
                let number = text.strip_prefix("cuda:").ok_or_else(unknown)?;
                let digits = (1..=2).contains(&number.len());
                if !digits || !number.bytes().all(|byte| byte.is_ascii_digit()) {
                    return Err(unknown());
                }
                number.parse().map(DeviceWish::Cuda).map_err(|_| unknown())
            }
        }
    }
}

impl fmt::Display for DeviceWish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DeviceWish::Auto => f.write_str("auto"),
            DeviceWish::Cpu => f.write_str("cpu"),
            DeviceWish::Cuda(number) => write!(f, "cuda:{number}"),
        }
    }
}

impl Precision {
    /// The words that are written for them, in this order.
    pub const ALL: [Precision; 4] =
        [Precision::Auto, Precision::F32, Precision::Bf16, Precision::F16];

    /// The word that is written for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Precision::Auto => "auto",
            Precision::F32 => "f32",
            Precision::Bf16 => "bf16",
            Precision::F16 => "f16",
        }
    }

    /// What the engine computes in on `device`.
    pub fn dtype(self, device: &Device) -> DType {
        match self {
            Precision::Auto if device.is_cpu() => DType::F32,
            Precision::Auto | Precision::Bf16 => DType::BF16,
            Precision::F32 => DType::F32,
            Precision::F16 => DType::F16,
        }
    }
}

/// A device in words for people: "cpu", "cuda:0 (NVIDIA H100)".
pub fn name(device: &Device) -> String {
    match device {
        Device::Cpu => "cpu".to_string(),
        other => driver::name(other),
    }
}

/// A device and type in words for people: "cpu, f32", "cuda:0 (NVIDIA H100), bf16".
pub fn describe(device: &Device, dtype: DType) -> String {
    format!("{}, {}", name(device), dtype.as_str())
}

/// Free and total bytes of a GPU's memory; `None` for the CPU.
pub(crate) fn memory(device: &Device) -> candle_core::Result<Option<(u64, u64)>> {
    driver::memory(device)
}

/// What asks the driver.
#[cfg(feature = "cuda")]
mod driver {
    use candle_core::cuda::cudarc::driver::{CudaContext, sys};
    use candle_core::{Device, Result};

    use super::Missing;

    /// How many GPUs there are. The driver's library is linked, so it is there: without it the
    /// program does not start.
    pub(super) fn gpus() -> std::result::Result<usize, Missing> {
        match CudaContext::device_count() {
            Ok(count) => Ok(usize::try_from(count).unwrap_or(0)),
            Err(error) => Err(match error.0 {
                sys::CUresult::CUDA_ERROR_NO_DEVICE => Missing::NoGpu,
                code => Missing::Driver(format!("{code:?}")),
            }),
        }
    }

    pub(super) fn name(device: &Device) -> String {
        let Device::Cuda(cuda) = device else { return "another device".to_string() };
        let stream = cuda.cuda_stream();
        let context = stream.context();
        let name = context.name().unwrap_or_else(|_| "unnamed GPU".to_string());
        format!("cuda:{} ({name})", context.ordinal())
    }

    /// Free and total bytes of a GPU; `None` for the CPU.
    pub(super) fn memory(device: &Device) -> Result<Option<(u64, u64)>> {
        let Device::Cuda(cuda) = device else { return Ok(None) };
        let stream = cuda.cuda_stream();
        let (free, total) = stream.context().mem_get_info().map_err(candle_core::Error::wrap)?;
        Ok(Some((free as u64, total as u64)))
    }
}

#[cfg(not(feature = "cuda"))]
mod driver {
    use candle_core::{Device, Result};

    use super::Missing;

    pub(super) fn gpus() -> std::result::Result<usize, Missing> {
        Err(Missing::NotBuilt)
    }

    pub(super) fn name(_: &Device) -> String {
        "another device".to_string()
    }

    pub(super) fn memory(_: &Device) -> Result<Option<(u64, u64)>> {
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(wish: DeviceWish, gpus: Result<usize, Missing>) -> String {
        match choose(wish, &gpus) {
            Ok((number, fallback)) => {
                let place = number.map_or("cpu".to_string(), |number| format!("gpu {number}"));
                fallback.map_or(place.clone(), |why| format!("{place}, as {why}"))
            }
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn a_gpu_is_taken_where_there_is_one() {
        assert_eq!(words(DeviceWish::Auto, Ok(2)), "gpu 0");
        assert_eq!(words(DeviceWish::Cuda(1), Ok(2)), "gpu 1");
        assert_eq!(words(DeviceWish::Cpu, Ok(2)), "cpu");
    }

    #[test]
    fn auto_falls_back_and_says_why_unless_the_build_has_no_choice() {
        assert_eq!(words(DeviceWish::Auto, Err(Missing::NotBuilt)), "cpu");
        let none = words(DeviceWish::Auto, Ok(0));
        assert!(none.starts_with("cpu, as the NVIDIA driver knows no GPU"), "{none}");
        let broken = words(DeviceWish::Auto, Err(Missing::Driver("CUDA_ERROR_X".to_string())));
        assert!(
            broken.starts_with("cpu, as the NVIDIA driver answers \"CUDA_ERROR_X\""),
            "{broken}"
        );
    }

    #[test]
    fn a_gpu_that_was_named_is_never_replaced() {
        let refused = |gpus| words(DeviceWish::Cuda(2), gpus);
        assert_eq!(
            refused(Err(Missing::NotBuilt)),
            "engine option `device`: cuda:2: this build has no CUDA; use the program inspectd-cuda, or choose \"cpu\""
        );
        assert!(refused(Ok(0)).contains("knows no GPU"));
        assert!(refused(Ok(1)).ends_with("this machine has one GPU; choose \"cuda:0\""));
        assert!(
            refused(Ok(2)).ends_with("this machine has 2 GPUs; choose \"cuda:0\" to \"cuda:1\"")
        );
    }

    #[test]
    fn wishes_are_read_and_written() {
        for text in ["auto", "cpu", "cuda:0", "cuda:1", "cuda:15"] {
            assert_eq!(text.parse::<DeviceWish>().unwrap().to_string(), text);
        }
        assert_eq!("cuda".parse(), Ok(DeviceWish::Cuda(0)));
        for text in
            ["", "gpu", "CUDA", "cuda:", "cuda:-1", "cuda:+1", "cuda:1 ", "cuda:100", "cuda0"]
        {
            assert!(text.parse::<DeviceWish>().is_err(), "{text}");
        }
    }

    #[test]
    fn auto_precision_depends_on_the_device() {
        assert_eq!(Precision::Auto.dtype(&Device::Cpu), DType::F32);
        assert_eq!(Precision::F16.dtype(&Device::Cpu), DType::F16);
        assert_eq!(describe(&Device::Cpu, DType::F32), "cpu, f32");
    }
}
