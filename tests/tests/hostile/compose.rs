//! Attackers as components: `base.wat` with one file of module fields laid over it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::{Resolve, WorldId};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("guests/hostile")
}

/// The behaviours that there are, sorted.
pub(crate) fn names() -> Vec<String> {
    let files = fs::read_dir(folder()).expect("the folder of the attackers");
    let name = |file: fs::DirEntry| Some(file.file_name().to_str()?.strip_suffix(".wat")?.to_owned());
    let mut names: Vec<_> = files.flatten().filter_map(name).filter(|name| name != "base").collect();
    names.sort();
    names
}

/// The component that behaves as the file `name` says, and calls itself so.
pub(crate) fn component(name: &str) -> Vec<u8> {
    static CONTRACT: LazyLock<(Resolve, WorldId)> = LazyLock::new(|| {
        let mut resolve = Resolve::default();
        let wit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../wit");
        let (package, _) = resolve.push_dir(wit).expect("the contract");
        let world = resolve.select_world(&[package], Some("batched-interceptor")).expect("the world");
        (resolve, world)
    });
    let (resolve, world) = &*CONTRACT;
    let mut module = wat::parse_str(compose(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    embed_component_metadata(&mut module, resolve, *world, StringEncoding::UTF8).expect("a world");
    let mut encoder = ComponentEncoder::default();
    let encoded = encoder.module(&module).and_then(|encoder| encoder.encode());
    encoded.unwrap_or_else(|error| panic!("{name}: {error:#}"))
}

/// The text of the module. Imports come first, as the format wants it.
fn compose(name: &str) -> String {
    let read = |name: &str| fs::read_to_string(folder().join(format!("{name}.wat"))).expect("a file of this name");
    let own = repeat(&read(name));
    let named =
        format!("(data $name (i32.const 1024) \"{name}\") (global $name-length i32 (i32.const {}))", name.len());
    let base = read("base") + &named;
    let own = fields(&own);
    let base = fields(&base).into_iter().filter(|field| {
        let key = key(field);
        key.is_none() || !own.iter().any(|other| self::key(other) == key)
    });
    let (imports, rest): (Vec<_>, Vec<_>) =
        base.chain(own.iter().copied()).partition(|field| field.starts_with("(import"));
    format!("(module {} {})", imports.join("\n"), rest.join("\n"))
}

/// Writes out what `;; times N` says of the line below it.
fn repeat(text: &str) -> String {
    let mut written = String::with_capacity(text.len());
    let mut times = 1;
    for line in text.lines() {
        match line.strip_prefix(";; times ") {
            Some(count) => times = count.parse().expect("a number"),
            None => {
                (0..std::mem::replace(&mut times, 1)).for_each(|_| written.extend([line, "\n"]));
            }
        }
    }
    written
}

/// The fields of a module: what is in the outermost parentheses, without the comments around it.
fn fields(text: &str) -> Vec<&str> {
    let (mut fields, mut depth, mut start) = (Vec::new(), 0, 0);
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            ';' => characters.by_ref().find(|(_, end)| *end == '\n').map_or((), drop),
            '"' => while characters.by_ref().next().is_some_and(|(_, end)| end != '"') {},
            '(' => {
                start = if depth == 0 { at } else { start };
                depth += 1;
            }
            ')' => {
                depth -= 1;
                if depth == 0 {
                    fields.push(&text[start..=at]);
                }
            }
            _ => {}
        }
    }
    fields
}

/// By what a field takes another one's place: its kind and name. Imports and fields without a name take none.
fn key(field: &str) -> Option<(&str, &str)> {
    let mut words = field.split(|c: char| c.is_whitespace() || "()".contains(c)).filter(|word| !word.is_empty());
    let (kind, name) = (words.next()?, words.next()?);
    (kind == "export" || (kind != "import" && name.starts_with('$'))).then_some((kind, name))
}
