//! The end that was asked for: SIGINT or SIGTERM.

use tokio::signal::unix::{SignalKind, signal};

/// Returns at SIGINT or SIGTERM.
pub async fn stop_signal() -> std::io::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}
