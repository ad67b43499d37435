//! Signatures of plugins: Ed25519 (RFC 8032), within the component's own file, so that one file is what is shipped.
//!
//! A signature is a custom section named `sandbar:signature` at the component's end: a version, the public key and the
//! signature, of 1, 32 and 64 bytes. It is over everything before the first such section, so several people can sign, in any
//! order. Whether a key is to be trusted is the embedder's question.

use std::str::FromStr;

use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use serde::Serialize;
use sha2::Digest as _;

use crate::plugin::Hex;

/// What is signed, before the digest of the component: a signature means nothing elsewhere.
const PURPOSE: &[u8] = b"sandbar plugin 1\0";
const SECTION: &[u8] = b"sandbar:signature";
/// Version, key and signature.
const PAYLOAD: usize = 1 + 32 + 64;
/// A custom section's id, its length in one byte, and its name's.
const FRAME: [u8; 3] = [0, (1 + SECTION.len() + PAYLOAD) as u8, SECTION.len() as u8];
/// Bytes of a whole section.
const WHOLE: usize = FRAME.len() + SECTION.len() + PAYLOAD;
/// How texts name the algorithm.
const PREFIX: &str = "ed25519:";
/// Signatures that are looked at; checking one takes longer than reading it.
const MAX_SIGNATURES: usize = 8;

/// By which a signature is checked. As text, `ed25519:` and 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PublicKey([u8; 32]);

/// By which a plugin is signed. As text, `ed25519:` and 64 hexadecimal digits; its debug form does not tell it.
#[derive(Clone)]
pub struct SecretKey(SigningKey);

/// A text is not a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a key is `ed25519:` and 64 hexadecimal digits")]
pub struct KeyError;

/// What is wrong with a component's signatures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// Something follows it, or it is not laid out as signatures are.
    #[error("what follows the component's signature at byte {0} is no signature")]
    Misplaced(usize),
    /// Of a version that this host does not know.
    #[error("a signature of version {0}; this host knows version 1")]
    Version(u8),
    /// It would not be found again: the bytes are not laid out in sections, as a component is.
    #[error("this is no component: it is not laid out in sections")]
    NoComponent,
    /// More than are looked at.
    #[error("the component has more than {MAX_SIGNATURES} signatures")]
    TooMany,
    /// It is not one of these bytes by this key.
    #[error("the signature by {0} is not one of this component: it was changed, or signed by somebody else")]
    Wrong(PublicKey),
}

impl PublicKey {
    /// The key's bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    fn verifies(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        let key = VerifyingKey::from_bytes(&self.0);
        key.is_ok_and(|key| key.verify_strict(message, &Signature::from_bytes(signature)).is_ok())
    }
}

impl std::fmt::Display for PublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{PREFIX}{}", Hex(&self.0))
    }
}

impl std::fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let key = Self(key_bytes(text)?);
        // Not every 32 bytes are a point of the curve.
        VerifyingKey::from_bytes(&key.0).map(|_| key).map_err(|_| KeyError)
    }
}

impl Serialize for PublicKey {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl SecretKey {
    /// The key that these 32 random bytes are.
    pub fn from_bytes(bytes: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(bytes))
    }

    /// The key by which its signatures are checked.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key().to_bytes())
    }

    /// The key as text, for the file that it is kept in.
    pub fn to_text(&self) -> String {
        format!("{PREFIX}{}", Hex(&self.0.to_bytes()))
    }

    /// The component with this key's signature behind those that it has. One by the same key is not added again.
    pub fn sign(&self, component: &[u8]) -> Result<Vec<u8>, SignatureError> {
        let mut signed = component.to_vec();
        if signers(component)?.contains(&self.public()) {
            return Ok(signed);
        }
        let (body, _) = split(component)?;
        signed.extend_from_slice(&FRAME);
        signed.extend_from_slice(SECTION);
        signed.push(1);
        signed.extend_from_slice(self.public().as_bytes());
        signed.extend_from_slice(&self.0.sign(&message(body)).to_bytes());
        match first_signature(&signed) {
            Some(first) if first == body.len() => Ok(signed),
            _ => Err(SignatureError::NoComponent),
        }
    }
}

impl std::fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("SecretKey").field(&self.public()).finish()
    }
}

impl FromStr for SecretKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        key_bytes(text).map(|bytes| Self::from_bytes(&bytes))
    }
}

fn key_bytes(text: &str) -> Result<[u8; 32], KeyError> {
    let digits = text.trim().strip_prefix(PREFIX).filter(|digits| digits.len() == 64).ok_or(KeyError)?;
    let mut bytes = [0; 32];
    for (byte, digits) in bytes.iter_mut().zip(digits.as_bytes().as_chunks::<2>().0) {
        let [high, low] = digits.map(|digit| char::from(digit).to_digit(16));
        *byte = (high.ok_or(KeyError)? << 4 | low.ok_or(KeyError)?) as u8;
    }
    Ok(bytes)
}

fn message(body: &[u8]) -> Vec<u8> {
    [PURPOSE, &sha2::Sha256::digest(body)].concat()
}

/// Who has signed a component, each once, in the order of the signatures. A signature that is wrong is an error, whoever
/// else has signed: the file is not what somebody made of it.
pub fn signers(component: &[u8]) -> Result<Vec<PublicKey>, SignatureError> {
    let (body, signatures) = split(component)?;
    if signatures.is_empty() {
        return Ok(Vec::new());
    }
    let message = message(body);
    let mut signers = Vec::new();
    for section in signatures {
        let (version, rest) = (section[WHOLE - PAYLOAD], &section[WHOLE - PAYLOAD + 1..]);
        if version != 1 {
            return Err(SignatureError::Version(version));
        }
        let (key, signature) = rest.split_at(32);
        let (Ok(key), Ok(signature)) = (key.try_into(), signature.try_into()) else {
            return Err(SignatureError::Misplaced(body.len()));
        };
        let key = PublicKey(key);
        if !key.verifies(&message, signature) {
            return Err(SignatureError::Wrong(key));
        }
        if !signers.contains(&key) {
            signers.push(key);
        }
    }
    Ok(signers)
}

/// The component without its signatures, and these: whole sections, from the first to the end.
fn split(component: &[u8]) -> Result<(&[u8], &[[u8; WHOLE]]), SignatureError> {
    let Some(first) = first_signature(component) else { return Ok((component, &[])) };
    let (body, signatures) = component.split_at(first);
    let (sections, rest) = signatures.as_chunks();
    let laid_out = |section: &[u8; WHOLE]| section[..3] == FRAME && section[3..].starts_with(SECTION);
    if !rest.is_empty() || !sections.iter().all(laid_out) {
        return Err(SignatureError::Misplaced(first));
    }
    if sections.len() > MAX_SIGNATURES {
        return Err(SignatureError::TooMany);
    }
    Ok((body, sections))
}

/// Where the first section named as signatures are begins, among the component's outermost sections. What is not laid out in
/// sections has none; whether it is a component at all others judge.
fn first_signature(component: &[u8]) -> Option<usize> {
    let mut at = 8;
    while at < component.len() {
        let (id, start) = (component[at], at + 1);
        let (size, start) = leb128(component, start)?;
        let content = component.get(start..start.checked_add(size)?)?;
        if id == 0
            && let Some((name_len, name)) = leb128(content, 0)
            && content.get(name..name + name_len.min(SECTION.len() + 1)) == Some(SECTION)
        {
            return Some(at);
        }
        at = start + size;
    }
    None
}

/// An unsigned number of at most 32 bits, and where what follows it begins.
fn leb128(bytes: &[u8], mut at: usize) -> Option<(usize, usize)> {
    let mut value = 0_u64;
    for shift in (0..35).step_by(7) {
        let byte = *bytes.get(at)?;
        at += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return u32::try_from(value).ok().map(|value| (value as usize, at));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A component's head, a section of a type, and a custom section.
    const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0\x07\x03\x01\x02\x03\0\x05\x04name";

    fn key(n: u8) -> SecretKey {
        SecretKey::from_bytes(&[n; 32])
    }

    #[test]
    fn who_signed_is_known_whatever_the_order_and_each_once() {
        assert_eq!(signers(COMPONENT), Ok(vec![]));
        let one = key(1).sign(COMPONENT).unwrap();
        assert_eq!((signers(&one), &one[..COMPONENT.len()]), (Ok(vec![key(1).public()]), COMPONENT));
        let both = key(2).sign(&one).unwrap();
        assert_eq!(signers(&both), Ok(vec![key(1).public(), key(2).public()]));
        assert_eq!(key(1).sign(&both).unwrap(), both);
        let other = key(1).sign(&key(2).sign(COMPONENT).unwrap()).unwrap();
        assert_eq!(signers(&other), Ok(vec![key(2).public(), key(1).public()]));
    }

    #[test]
    fn a_byte_that_is_changed_anywhere_is_found() {
        let signed = key(1).sign(COMPONENT).unwrap();
        for at in 0..signed.len() {
            for bit in 0..8 {
                let mut changed = signed.clone();
                changed[at] ^= 1 << bit;
                assert_ne!(signers(&changed), Ok(vec![key(1).public()]), "byte {at}, bit {bit}");
            }
        }
        for cut in COMPONENT.len() + 1..signed.len() {
            assert_ne!(signers(&signed[..cut]), Ok(vec![key(1).public()]));
        }
    }

    #[test]
    fn what_is_no_component_is_not_signed() {
        for bytes in [&b""[..], b"\0asm", b"#!/bin/sh\n", &COMPONENT[..COMPONENT.len() - 1]] {
            assert_eq!(key(1).sign(bytes), Err(SignatureError::NoComponent), "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn nothing_may_follow_a_signature_but_signatures() {
        let signed = key(1).sign(COMPONENT).unwrap();
        for more in [&b"\0\x02\x01x"[..], &[0], &signed[8..]] {
            let longer = [&signed[..], more].concat();
            assert_eq!(signers(&longer), Err(SignatureError::Misplaced(COMPONENT.len())));
        }
        let mut many = COMPONENT.to_vec();
        for n in 0..=MAX_SIGNATURES as u8 {
            match key(n).sign(&many) {
                Ok(more) => many = more,
                Err(error) => assert_eq!(error, SignatureError::TooMany),
            }
        }
        assert_eq!(signers(&many), Err(SignatureError::TooMany));
    }

    #[test]
    fn a_signature_of_another_component_or_version_is_refused() {
        let other = [COMPONENT, b"\0\x02\x01x"].concat();
        let signature = key(1).sign(COMPONENT).unwrap()[COMPONENT.len()..].to_vec();
        assert_eq!(signers(&[&other[..], &signature].concat()), Err(SignatureError::Wrong(key(1).public())));
        let mut later = [COMPONENT, &signature].concat();
        later[COMPONENT.len() + WHOLE - PAYLOAD] = 2;
        assert_eq!(signers(&later), Err(SignatureError::Version(2)));
    }

    #[test]
    fn rfc_8032_7_1_test_1_keys_are_made_and_read_as_everywhere() {
        let secret: SecretKey =
            "ed25519:9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60".parse().unwrap();
        let public = "ed25519:d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
        assert_eq!((secret.public().to_string(), secret.public()), (public.to_owned(), public.parse().unwrap()));
        assert_eq!(secret.to_text().parse::<SecretKey>().unwrap().public(), secret.public());
        assert!(!format!("{secret:?}").contains("9d61"));
        for wrong in ["", "ed25519:", "rsa:00", &public[..70], &public.replace('d', "g")] {
            assert!(wrong.parse::<PublicKey>().is_err() && wrong.parse::<SecretKey>().is_err(), "{wrong}");
        }
        let no_point = format!("ed25519:02{}", "00".repeat(31));
        assert_eq!(no_point.parse::<PublicKey>(), Err(KeyError));
    }
}
