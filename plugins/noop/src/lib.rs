//! Does nothing, on every path: the smallest plugin.

use sandbar_sdk::{Context, Interceptor, Refusal};

/// Binds to nothing, so the host never calls it for a packet.
pub struct Noop;

impl Interceptor for Noop {
    fn create(_: &mut Context, _: &str) -> Result<Self, Refusal> {
        Ok(Noop)
    }
}

sandbar_sdk::export!(Noop, binds = []);
