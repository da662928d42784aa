//! Exit codes with a meaning, and the one place that prints an error.

use std::process::ExitCode;

/// Why a command ends without success. The number is the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It failed while running.
    Failed = 1,
    /// Wrong arguments or configuration.
    Usage = 2,
    /// The model cannot be used.
    Model = 3,
    /// The audit log cannot be used.
    Store = 4,
    /// A camera cannot be opened.
    Camera = 5,
    /// The demo's or the evaluation's own check failed.
    Check = 6,
    /// The audit log is not whole.
    Broken = 7,
}

impl Exit {
    /// Gives an error this exit code.
    pub fn because(self, error: impl Into<anyhow::Error>) -> anyhow::Error {
        error.into().context(Marked(self))
    }
}

/// Carries the exit code through the chain of errors; prints nothing itself.
#[derive(Debug)]
struct Marked(Exit);

impl std::fmt::Display for Marked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.0 {
            Exit::Failed => "failed",
            Exit::Usage => "cannot start",
            Exit::Model => "the model cannot be used",
            Exit::Store => "the audit log cannot be used",
            Exit::Camera => "a camera cannot be used",
            Exit::Check => "the check failed",
            Exit::Broken => "the audit log is broken",
        })
    }
}

/// Prints what went wrong, the outermost first, and answers the exit code.
pub fn code(result: anyhow::Result<()>) -> ExitCode {
    let Err(error) = result else { return ExitCode::SUCCESS };
    let broken_pipe = error.chain().any(|cause| {
        let io = cause.downcast_ref::<std::io::Error>();
        io.is_some_and(|io| io.kind() == std::io::ErrorKind::BrokenPipe)
    });
    if broken_pipe {
        // Whoever read us has seen enough: `inspectd audit list | head` is not a failure.
        return ExitCode::SUCCESS;
    }
    eprintln!("inspectd: {error:#}");
    let exit = error.downcast_ref::<Marked>().map_or(Exit::Failed, |marked| marked.0);
    ExitCode::from(exit as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_code_survives_more_context() {
        let error = Exit::Store.because(std::io::Error::other("disk")).context("while starting");
        assert_eq!(code(Err(error)), ExitCode::from(4));
        assert_eq!(code(Err(anyhow::anyhow!("plain"))), ExitCode::from(1));
        let pipe = std::io::Error::from(std::io::ErrorKind::BrokenPipe);
        assert_eq!(code(Err(pipe.into())), ExitCode::SUCCESS);
    }
}
