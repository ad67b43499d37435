//! What the binding generator makes of `wit/`. Nothing of it is visible to plugins.
#![allow(unsafe_code, missing_docs, unreachable_pub, clippy::all, reason = "generated")]

wit_bindgen::generate!({
    path: "wit",
    world: "batched-interceptor",
    ownership: Borrowing { duplicate_if_necessary: true },
    pub_export_macro: true,
    runtime_path: "sandbar_sdk::__private::wit_bindgen::rt",
    bitflags_path: "sandbar_sdk::__private::wit_bindgen::rt::bitflags",
    default_bindings_module: "sandbar_sdk::bindings",
});
