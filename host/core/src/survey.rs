//! What a file is, before the compiler sees it: its imports and exports by name, and how much there is to compile.

use wasmparser::{
    ComponentExternalKind, ComponentType, ComponentTypeDeclaration, Encoding, InstanceTypeDeclaration, Parser, Payload,
};

use crate::plugin::CONTRACT;

const PACKAGE: &str = "sandbar:interceptor/";

/// Why a file is not a component of this contract.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SurveyError {
    /// Not WebAssembly.
    #[error("this is {0}, not a WebAssembly component")]
    NotWasm(&'static str),
    /// A core module.
    #[error(
        "this is a core WebAssembly module, not a component; build it with `sandbar plugin build`, or wrap it with `wasm-tools component new`"
    )]
    CoreModule,
    /// Cut off or damaged.
    #[error("the component is truncated or damaged: {0}")]
    Damaged(String),
    /// A component of another world.
    #[error("the component exports {}, and a plugin exports {PACKAGE}member@{CONTRACT} and {PACKAGE}description@{CONTRACT}", list(.0))]
    WrongWorld(Vec<String>),
    /// A component of another version of the contract.
    #[error("the component is made for {found}, and this host speaks {PACKAGE}*@{CONTRACT}; {}", advice(.found))]
    Version {
        /// The export that shows it.
        found: String,
    },
}

fn list(names: &[String]) -> String {
    match names {
        [] => "nothing".to_owned(),
        [first @ .., last] if first.len() >= 6 => format!("{}, .. {last}", first[..5].join(", ")),
        names => names.join(", "),
    }
}

fn advice(found: &str) -> &'static str {
    let version = |text: &str| -> Vec<u64> { text.split('.').map_while(|part| part.parse().ok()).collect() };
    let theirs = found.rsplit_once('@').map(|(_, theirs)| version(theirs));
    if theirs.is_some_and(|theirs| theirs > version(CONTRACT)) {
        "update the host, or build the plugin for this version"
    } else {
        "build the plugin for this version"
    }
}

/// What a component of this contract is made of.
#[derive(Clone, Debug)]
pub(crate) struct Survey {
    /// All interfaces it imports, contract and WASI.
    pub(crate) imports: Vec<String>,
    /// Those that are neither.
    pub(crate) unknown_imports: Vec<String>,
    pub(crate) imports_wasi: bool,
    pub(crate) batched: bool,
    pub(crate) functions: u32,
    pub(crate) modules: u32,
    /// In all type sections; those within one, such as an instance's, count as well.
    pub(crate) types: u32,
    /// The most components, and types of components and instances, that lie within each other.
    pub(crate) depth: u32,
}

/// The interface that an import of the contract names, such as `emit-rtp`.
pub(crate) fn interface(import: &str) -> Option<&str> {
    import.strip_prefix(PACKAGE)?.split('@').next()
}

/// Counts a type and those within it; `depth` lie around it. How far they can lie within each other is bounded by who read them.
fn count_types(declared: &ComponentType<'_>, depth: u32, found: &mut Survey) {
    found.types = found.types.saturating_add(1);
    let (component, instance): (&[ComponentTypeDeclaration<'_>], &[InstanceTypeDeclaration<'_>]) = match declared {
        ComponentType::Component(declarations) => (declarations, &[]),
        ComponentType::Instance(declarations) => (&[], declarations),
        ComponentType::Defined(_) | ComponentType::Func(_) | ComponentType::Resource { .. } => return,
    };
    found.depth = found.depth.max(depth + 1);
    for declaration in component {
        if let ComponentTypeDeclaration::Type(inner) = declaration {
            count_types(inner, depth + 1, found);
        }
    }
    for declaration in instance {
        if let InstanceTypeDeclaration::Type(inner) = declaration {
            count_types(inner, depth + 1, found);
        }
    }
}

/// Looks at a file's sections, without validating what is in them: the compiler does that.
pub(crate) fn survey(bytes: &[u8]) -> Result<Survey, SurveyError> {
    if !bytes.starts_with(b"\0asm") {
        return Err(SurveyError::NotWasm(match bytes {
            [] => "an empty file",
            [0x7f, b'E', b'L', b'F', ..] => "a native program or library",
            [b'(', ..] => "text",
            _ if bytes.iter().take(256).all(|b| b.is_ascii_graphic() || b.is_ascii_whitespace()) => "text",
            _ => "something else",
        }));
    }
    let mut found = Survey {
        imports: Vec::new(),
        unknown_imports: Vec::new(),
        imports_wasi: false,
        batched: false,
        functions: 0,
        modules: 0,
        types: 0,
        depth: 0,
    };
    let mut exports = Vec::new();
    let damaged = |error: wasmparser::BinaryReaderError| SurveyError::Damaged(error.to_string());
    let mut depth = 0u32;
    for payload in Parser::new(0).parse_all(bytes) {
        match payload.map_err(damaged)? {
            Payload::Version { encoding: Encoding::Module, .. } if depth == 0 => return Err(SurveyError::CoreModule),
            Payload::Version { .. } => {
                depth += 1;
                found.depth = found.depth.max(depth);
            }
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ModuleSection { .. } => found.modules = found.modules.saturating_add(1),
            Payload::TypeSection(section) => found.types = found.types.saturating_add(section.count()),
            Payload::ComponentTypeSection(section) => {
                for declared in section {
                    count_types(&declared.map_err(damaged)?, depth, &mut found);
                }
            }
            Payload::FunctionSection(section) => found.functions = found.functions.saturating_add(section.count()),
            Payload::ComponentImportSection(section) if depth == 1 => {
                for import in section {
                    found.imports.push(import.map_err(damaged)?.name.name.to_owned());
                }
            }
            Payload::ComponentExportSection(section) if depth == 1 => {
                for export in section {
                    let export = export.map_err(damaged)?;
                    if export.kind == ComponentExternalKind::Instance {
                        exports.push(export.name.name.to_owned());
                    }
                }
            }
            _ => {}
        }
    }
    let exported = |interface: &str| exports.contains(&format!("{PACKAGE}{interface}@{CONTRACT}"));
    if !exported("member") || !exported("description") {
        return Err(match exports.iter().find(|name| name.starts_with(PACKAGE)) {
            Some(name) if !name.ends_with(&format!("@{CONTRACT}")) => SurveyError::Version { found: name.clone() },
            // As after a cut between two sections.
            Some(name) => SurveyError::Damaged(format!("it exports {name}, and not all that goes with it")),
            None => SurveyError::WrongWorld(exports),
        });
    }
    found.batched = exported("batch");
    found.imports_wasi = found.imports.iter().any(|name| name.starts_with("wasi:"));
    let known = |name: &str| name.starts_with("wasi:") || name.starts_with(PACKAGE);
    found.unknown_imports = found.imports.iter().filter(|name| !known(name)).cloned().collect();
    Ok(found)
}
