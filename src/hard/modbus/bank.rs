//! One request into one answer, without any socket.

use std::sync::{Arc, PoisonError, RwLock};

use modbus_core::{
    Data, Encode, Exception, ExceptionResponse, FunctionCode, Request, Response, ResponsePdu,
};

use crate::hard::panel::Panel;
use crate::hard::registers::{Image, WORDS};

/// Longest request or answer without its header, in bytes.
pub const PDU_MAX_BYTES: usize = 253;

/// Most registers of one request.
const READ_MAX: u16 = 125;

/// The registers of one station.
#[derive(Clone, Debug)]
pub struct Block {
    /// The first register.
    pub base: u16,
    /// What they show.
    pub panel: Arc<Panel>,
}

/// Registers that another station has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("another station has registers from {0} on, or some of them")]
pub struct Overlap(pub u16);

/// All registers of the device.
#[derive(Debug)]
pub struct Bank {
    unit_id: u8,
    blocks: RwLock<Vec<Block>>,
}

impl Bank {
    /// The registers of no station yet.
    pub fn new(unit_id: u8) -> Bank {
        Bank { unit_id, blocks: RwLock::default() }
    }

    /// The registers of one more station.
    ///
    /// # Errors
    /// The station's registers overlap with those of another one.
    pub fn add(&self, block: Block) -> Result<(), Overlap> {
        let mut blocks = self.blocks.write().unwrap_or_else(PoisonError::into_inner);
        if blocks.iter().any(|other| other.base.abs_diff(block.base) < WORDS) {
            return Err(Overlap(block.base));
        }
        blocks.push(block);
        Ok(())
    }

    /// The registers that begin at `base` are no station's any more: whoever reads them is told so.
    pub fn remove(&self, base: u16) {
        let mut blocks = self.blocks.write().unwrap_or_else(PoisonError::into_inner);
        blocks.retain(|block| block.base != base);
    }

    /// Answers the request `pdu`, which is hostile until checked, to `unit`: how many bytes of `out` are
    /// the answer. All registers of one request are of one moment.
    pub fn answer(
        &self,
        unit: u8,
        pdu: &[u8],
        now_ns: u64,
        out: &mut [u8; PDU_MAX_BYTES],
    ) -> usize {
        let mut bytes = [0; 2 * READ_MAX as usize];
        let answered = self.read(unit, pdu, now_ns).and_then(|(is_holding, words)| {
            let data = Data::from_words(&words, &mut bytes);
            let data = data.map_err(|_| Exception::ServerDeviceFailure)?;
            Ok(match is_holding {
                true => Response::ReadHoldingRegisters(data),
                false => Response::ReadInputRegisters(data),
            })
        });
        // What is no function has no exception of its own: its number without the bit that marks one.
        let code = pdu.first().map_or(0, |code| code & 0x7f);
        let function = FunctionCode::new(code);
        let response = answered.map_err(|exception| ExceptionResponse { function, exception });
        // Cannot fail: the longest answer is shorter. If it did, nothing is answered, which is reject.
        ResponsePdu(response).encode(out).unwrap_or(0)
    }

    /// The words that are asked for, and whether they are asked for as holding registers.
    fn read(&self, unit: u8, pdu: &[u8], now_ns: u64) -> Result<(bool, Vec<u16>), Exception> {
        if ![self.unit_id, 0, 255].contains(&unit) {
            return Err(Exception::GatewayTargetDevice);
        }
        // Only what begins as a read is decoded any further.
        if !matches!(pdu.first(), Some(3 | 4)) {
            return Err(Exception::IllegalFunction);
        }
        let request = Request::try_from(pdu).map_err(|_| Exception::IllegalDataValue)?;
        let (is_holding, first, count) = match request {
            Request::ReadHoldingRegisters(first, count) => (true, first, count),
            Request::ReadInputRegisters(first, count) => (false, first, count),
            _ => return Err(Exception::IllegalFunction),
        };
        if pdu.len() != 5 || !(1..=READ_MAX).contains(&count) {
            return Err(Exception::IllegalDataValue);
        }
        self.words(first, count, now_ns).map(|words| (is_holding, words))
    }

    fn words(&self, first: u16, count: u16, now_ns: u64) -> Result<Vec<u16>, Exception> {
        let holds = |block: &&Block| {
            first >= block.base
                && u32::from(first) + u32::from(count) <= u32::from(block.base) + u32::from(WORDS)
        };
        let blocks = self.blocks.read().unwrap_or_else(PoisonError::into_inner);
        let block = blocks.iter().find(holds).ok_or(Exception::IllegalDataAddress)?;
        let image = block.panel.read(|board| Image::of(board, now_ns));
        let from = usize::from(first - block.base);
        let words = image.words().get(from..from + usize::from(count));
        words.map(<[u16]>::to_vec).ok_or(Exception::IllegalDataAddress)
    }
}
