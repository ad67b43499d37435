//! A component in good order, and not a plugin: it is of another world.

#[allow(unsafe_code, missing_docs, unreachable_pub, rust_2018_idioms, clippy::all)]
mod bindings {
    wit_bindgen::generate!({ world: "greeter", path: "wit" });
}

/// The component's exports.
pub struct Guest;

impl bindings::exports::greetings::greeter::greet::Guest for Guest {
    fn greet(name: String) -> String {
        format!("Hello, {name}!")
    }
}

#[cfg(target_family = "wasm")]
#[allow(unsafe_code)]
const _: () = {
    bindings::export!(Guest with_types_in bindings);
};
