//! What no plugin gets: functions that answer by their type alone that there is nothing, or that it is not allowed.
//!
//! | a function returns | the answer |
//! | --- | --- |
//! | a list or an option | empty |
//! | a result | the error `access`, `access-denied` or `closed`, whichever its type has |
//! | anything else | a trap that names the function |
//!
//! Nearly all of them are methods of resources that nothing ever returns, and so can't be called at all. They are
//! listed because a component does not load unless every function it names is there.

use wasmtime::component::types::{ComponentFunc, Type};
use wasmtime::component::{Linker, ResourceType, Val};
use wasmtime::{Error, Result};

use super::{answer, interface};
use crate::guest::Guest;

/// A resource of which there is never one.
pub(super) struct Absent;

/// Interface, resource, and the functions of both: methods of the resource where there is one.
const ABSENT: &[(&str, &str, &str)] = &[
    ("cli/environment", "", "get-environment get-arguments initial-cwd"),
    ("cli/terminal-input", "terminal-input", ""),
    ("cli/terminal-output", "terminal-output", ""),
    ("cli/terminal-stdin", "", "get-terminal-stdin"),
    ("cli/terminal-stdout", "", "get-terminal-stdout"),
    ("cli/terminal-stderr", "", "get-terminal-stderr"),
    ("io/error", "error", "to-debug-string"),
    (
        "io/streams",
        "",
        "[method]input-stream.read [method]input-stream.blocking-read [method]input-stream.skip \
         [method]input-stream.blocking-skip [method]output-stream.write-zeroes \
         [method]output-stream.blocking-write-zeroes-and-flush [method]output-stream.splice \
         [method]output-stream.blocking-splice",
    ),
    ("filesystem/preopens", "", "get-directories"),
    ("filesystem/types", "", "filesystem-error-code"),
    ("filesystem/types", "directory-entry-stream", "read-directory-entry"),
    (
        "filesystem/types",
        "descriptor",
        "read-via-stream write-via-stream append-via-stream advise sync-data get-flags get-type set-size set-times \
         read write read-directory sync create-directory-at stat stat-at set-times-at link-at open-at readlink-at \
         remove-directory-at rename-at symlink-at unlink-file-at is-same-object metadata-hash metadata-hash-at",
    ),
    ("sockets/network", "", "network-error-code"),
    ("sockets/ip-name-lookup", "", "resolve-addresses"),
    ("sockets/ip-name-lookup", "resolve-address-stream", "resolve-next-address subscribe"),
    ("sockets/tcp-create-socket", "", "create-tcp-socket"),
    (
        "sockets/tcp",
        "tcp-socket",
        "start-bind finish-bind start-connect finish-connect start-listen finish-listen accept local-address \
         remote-address is-listening address-family set-listen-backlog-size keep-alive-enabled set-keep-alive-enabled \
         keep-alive-idle-time set-keep-alive-idle-time keep-alive-interval set-keep-alive-interval keep-alive-count \
         set-keep-alive-count hop-limit set-hop-limit receive-buffer-size set-receive-buffer-size send-buffer-size \
         set-send-buffer-size subscribe shutdown",
    ),
    ("sockets/udp-create-socket", "", "create-udp-socket"),
    (
        "sockets/udp",
        "udp-socket",
        "start-bind finish-bind stream local-address remote-address address-family unicast-hop-limit \
         set-unicast-hop-limit receive-buffer-size set-receive-buffer-size send-buffer-size set-send-buffer-size \
         subscribe",
    ),
    ("sockets/udp", "incoming-datagram-stream", "receive subscribe"),
    ("sockets/udp", "outgoing-datagram-stream", "check-send send subscribe"),
];

pub(super) fn add_to_linker(linker: &mut Linker<Guest>) -> Result<()> {
    for (owner, resource, functions) in ABSENT {
        let mut interface = interface(linker, owner)?;
        if !resource.is_empty() {
            interface.resource(resource, ResourceType::host::<Absent>(), |_, _| Ok(()))?;
        }
        for function in functions.split_whitespace() {
            let name = match *resource {
                "" => function.to_owned(),
                resource => format!("[method]{resource}.{function}"),
            };
            let trap = format!("wasi:{owner} {name} is not there for a plugin");
            interface.func_new(&name, move |_, signature, _, results| match nothing(&signature) {
                Some(value) => answer(results, value),
                None => Err(Error::msg(trap.clone())),
            })?;
        }
    }
    Ok(())
}

/// The answer that there is nothing, where the function's type has one.
fn nothing(signature: &ComponentFunc) -> Option<Val> {
    match signature.results().next()? {
        Type::List(_) => Some(Val::List(Vec::new())),
        Type::Option(_) => Some(Val::Option(None)),
        Type::Result(result) => Some(Val::Result(Err(Some(Box::new(refusal(&result.err()?)?))))),
        _ => None,
    }
}

fn refusal(error: &Type) -> Option<Val> {
    match error {
        Type::Enum(codes) => {
            let mut codes = codes.names();
            codes.find(|code| matches!(*code, "access" | "access-denied")).map(|code| Val::Enum(code.to_owned()))
        }
        Type::Variant(cases) => {
            let mut cases = cases.cases();
            cases.find(|case| case.name == "closed").map(|case| Val::Variant(case.name.to_owned(), None))
        }
        _ => None,
    }
}
