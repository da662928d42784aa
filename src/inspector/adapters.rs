//! The adapters of all stations in memory: each once, however many questions name it, and no more
//! than fit into a bound.

use std::collections::HashMap;
use std::sync::Arc;

use crate::vlm::{Adapter, AdapterRef, Digest, Engine, LoadError};

/// Adapters by digest.
#[derive(Default)]
pub(super) struct Adapters {
    held: HashMap<Digest, Arc<Adapter>>,
}

/// Why an adapter cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum AdapterError {
    /// It is damaged, or not for this model.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// Somebody wrote into the folder since the configuration was read.
    #[error(
        "the adapter {dir} changed while the program started: it was {was} and is {is}; start again"
    )]
    Changed {
        /// The folder.
        dir: String,
        /// Its digest when it was checked.
        was: Digest,
        /// Its digest now.
        is: Digest,
    },
    /// All adapters together take too much memory.
    #[error(
        "the adapter {dir} brings all adapters to {needed_mib} MiB, and {allowed_mib} MiB are allowed; raise adapters_max_mib in [model], or use fewer adapters or lower ranks"
    )]
    TooLarge {
        /// The folder.
        dir: String,
        /// What all of them would take.
        needed_mib: usize,
        /// What they may take.
        allowed_mib: usize,
    },
}

impl Adapters {
    /// Lets go of all but `used`.
    pub(super) fn keep<'a>(&mut self, used: impl Iterator<Item = &'a Arc<Adapter>>) {
        self.held = used.map(|adapter| (adapter.digest(), Arc::clone(adapter))).collect();
    }

    /// The adapter in memory, loaded if no question named it before.
    pub(super) fn get(
        &mut self,
        engine: &Engine,
        wanted: &AdapterRef,
    ) -> Result<Arc<Adapter>, AdapterError> {
        if let Some(held) = self.held.get(&wanted.digest) {
            return Ok(Arc::clone(held));
        }
        let adapter = Adapter::load(&wanted.dir, engine)?;
        let dir = wanted.dir.display().to_string();
        if adapter.digest() != wanted.digest {
            return Err(AdapterError::Changed { dir, was: wanted.digest, is: adapter.digest() });
        }
        let needed = self.bytes() + adapter.bytes();
        let allowed = engine.options().adapters_max_bytes;
        if needed > allowed {
            let (needed_mib, allowed_mib) = (needed.div_ceil(1 << 20), allowed >> 20);
            return Err(AdapterError::TooLarge { dir, needed_mib, allowed_mib });
        }
        let adapter = Arc::new(adapter);
        self.held.insert(wanted.digest, Arc::clone(&adapter));
        Ok(adapter)
    }

    fn bytes(&self) -> usize {
        self.held.values().map(|adapter| adapter.bytes()).sum()
    }
}
