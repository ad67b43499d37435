//! The host's functions: the component's imports in a wasm build, natively those of the test harness.

#[cfg(target_family = "wasm")]
mod component;
#[cfg(target_family = "wasm")]
pub(crate) use component::*;

#[cfg(not(target_family = "wasm"))]
pub(crate) use crate::testing::host::*;
