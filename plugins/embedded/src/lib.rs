//! The standard plugins as components, embedded in whatever links this crate. Each is a crate of its own beside this one,
//! written with the SDK like anyone's; the build script compiles them all.
//!
//! ```
//! let noop = sandbar_plugins::by_name("noop").expect("a standard plugin");
//! assert!(noop.component.starts_with(b"\0asm"));
//! ```

/// A standard plugin.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Embedded {
    /// Its name, as in its description and its folder, such as `nack-generator`.
    pub name: &'static str,
    /// The component's bytes.
    pub component: &'static [u8],
}

impl std::fmt::Debug for Embedded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Embedded").field("name", &self.name).field("bytes", &self.component.len()).finish()
    }
}

/// All standard plugins, by name.
pub const ALL: &[Embedded] = include!(concat!(env!("OUT_DIR"), "/table.rs"));

/// The standard plugin with this name.
pub fn by_name(name: &str) -> Option<&'static Embedded> {
    ALL.iter().find(|plugin| plugin.name == name)
}

/// What `sandbar demo` loads besides the standard plugins.
pub mod demo {
    use super::Embedded;

    /// `examples/crasher`: traps on a frame of more than one packet.
    pub const CRASHER: Embedded = Embedded {
        name: "sandbar-example-crasher",
        component: include_bytes!(concat!(env!("OUT_DIR"), "/crasher.wasm")),
    };

    /// `examples/looper`: does not return from its first packet.
    pub const LOOPER: Embedded = Embedded {
        name: "sandbar-example-looper",
        component: include_bytes!(concat!(env!("OUT_DIR"), "/looper.wasm")),
    };

    /// The nack-responder under a higher version number: the same source, another component.
    pub const NEXT_NACK_RESPONDER: Embedded = Embedded {
        name: "nack-responder",
        component: include_bytes!(concat!(env!("OUT_DIR"), "/next-nack-responder.wasm")),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_plugin_is_a_component_and_is_found_by_its_name() {
        assert!(!ALL.is_empty());
        for plugin in ALL {
            // The preamble of a component, which differs from a module's in its layer (component-model, Binary.md).
            assert_eq!(plugin.component[..8], *b"\0asm\x0d\0\x01\0", "{plugin:?}");
            assert_eq!(by_name(plugin.name), Some(plugin));
        }
        assert_eq!(by_name("embedded"), None);
    }

    #[test]
    fn the_next_version_is_another_component_of_the_same_name() {
        let now = by_name(demo::NEXT_NACK_RESPONDER.name).unwrap();
        assert_ne!(now.component, demo::NEXT_NACK_RESPONDER.component);
    }
}
