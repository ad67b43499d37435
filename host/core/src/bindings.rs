//! What wasmtime generates from the contract. Nothing else in this crate names the generated paths at length.

#![allow(missing_docs, unreachable_pub, unsafe_code, clippy::all)]

mod typed {
    wasmtime::component::bindgen!({
        path: "../../wit",
        world: "interceptor",
        imports: { default: trappable },
    });
}

mod batched {
    wasmtime::component::bindgen!({
        path: "../../wit",
        inline: "package sandbar:lane; world batch { export sandbar:interceptor/batch@0.1.0; }",
        world: "sandbar:lane/batch",
    });
}

pub(crate) use batched::{Batch as BatchLane, BatchIndices as BatchLaneIndices};
pub(crate) use typed::exports::sandbar::interceptor::description as describe;
pub(crate) use typed::exports::sandbar::interceptor::member;
pub(crate) use typed::sandbar::interceptor::{
    attributes, emit_error, emit_rtp, history, hold, random, sink, stamps, telemetry, time, types, wall_clock,
};
pub(crate) use typed::{Interceptor, InterceptorIndices};
