//! Values that belong to a session: set by one member of its chain or the application, read by all.

use std::sync::Arc;

use crate::attributes::{MAX_BYTES, MAX_COUNT, TooMany, Value};
use crate::session::{InstanceId, SessionId};
use crate::shard::Shard;
use crate::tenant::Quota;

/// Whose a value is: a member, by its number in the session, or with `None` the application.
pub(crate) type Setter = Option<u32>;

#[derive(Clone, Debug)]
struct Entry {
    key: String,
    value: Value,
    setter: Setter,
}

/// The values of one session. A copy costs a reference count: every seat of the session has one, so that a plugin that
/// reads takes no lock.
#[derive(Clone, Debug, Default)]
pub(crate) struct Values(Arc<Vec<Entry>>);

impl Values {
    pub(crate) fn get(&self, key: &str) -> Option<&Value> {
        self.0.iter().find(|entry| entry.key == key).map(|entry| &entry.value)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().map(|entry| (entry.key.as_str(), &entry.value))
    }

    /// Sets a value in place of whoever's it was, or with `None` removes the setter's own. The bounds are each setter's
    /// own, so that none can take all the room there is.
    pub(crate) fn set(&mut self, setter: Setter, key: &str, value: Option<Value>) -> Result<(), TooMany> {
        let known = self.0.iter().position(|entry| entry.key == key);
        let Some(value) = value else {
            if let Some(at) = known.filter(|at| self.0[*at].setter == setter) {
                Arc::make_mut(&mut self.0).remove(at);
            }
            return Ok(());
        };
        let others = self.0.iter().filter(|entry| entry.setter == setter && entry.key != key);
        let (count, bytes) =
            others.fold((1, key.len() + value.size()), |(n, sum), e| (n + 1, sum + e.key.len() + e.value.size()));
        if count > MAX_COUNT || bytes > MAX_BYTES {
            return Err(TooMany);
        }
        let list = Arc::make_mut(&mut self.0);
        match known.and_then(|at| list.get_mut(at)) {
            Some(entry) => (entry.value, entry.setter) = (value, setter),
            None => list.push(Entry { key: key.to_owned(), value, setter }),
        }
        Ok(())
    }

    /// Bytes of what a setter has set, keys included.
    pub(crate) fn bytes_of(&self, setter: Setter) -> usize {
        let own = self.0.iter().filter(|entry| entry.setter == setter);
        own.map(|entry| entry.key.len() + entry.value.size()).sum()
    }

    /// Removes what a setter has set. Says whether there was anything.
    pub(crate) fn clear(&mut self, setter: Setter) -> bool {
        let any = self.0.iter().any(|entry| entry.setter == setter);
        if any {
            Arc::make_mut(&mut self.0).retain(|entry| entry.setter != setter);
        }
        any
    }
}

/// What a call has set so far: it takes effect when the call has returned without a fault.
#[derive(Debug, Default)]
pub(crate) struct Changes(Vec<(String, Option<Value>)>);

impl Changes {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What the call sees: its own change, or else what the session has.
    pub(crate) fn get<'a>(&'a self, values: &'a Values, key: &str) -> Option<&'a Value> {
        match self.0.iter().find(|(known, _)| known == key) {
            Some((_, change)) => change.as_ref(),
            None => values.get(key),
        }
    }

    /// Notes a change, if with those before it it can be made.
    pub(crate) fn set(
        &mut self,
        values: &Values,
        setter: Setter,
        key: &str,
        value: Option<Value>,
    ) -> Result<(), TooMany> {
        let place = self.0.iter().position(|(known, _)| known == key);
        // There is nothing of its own to remove.
        if place.is_none() && value.is_none() && !values.0.iter().any(|e| e.key == key && e.setter == setter) {
            return Ok(());
        }
        let mut after = values.clone();
        for (at, (known, change)) in self.0.iter().enumerate() {
            let change = if place == Some(at) { &value } else { change };
            after.set(setter, known, change.clone())?;
        }
        match place.and_then(|at| self.0.get_mut(at)) {
            Some((_, change)) => *change = value,
            None => {
                after.set(setter, key, value.clone())?;
                self.0.push((key.to_owned(), value));
            }
        }
        Ok(())
    }

    /// Makes the changes.
    pub(crate) fn apply(self, values: &mut Values, setter: Setter) {
        for (key, change) in self.0 {
            // What does not fit was refused when it was noted, and nobody else spends this setter's room.
            let _ = values.set(setter, &key, change);
        }
    }
}

/// Why a value of a session is not set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionAttributeError {
    /// No such session.
    #[error("there is no such session")]
    NoSession,
    /// The key is the host's.
    #[error("keys that begin with `sandbar.` are the host's")]
    Denied,
    /// The application has set its fill.
    #[error("a session's application sets at most {MAX_COUNT} values of together {MAX_BYTES} bytes")]
    TooMany,
}

impl Shard {
    /// A value of the session, set by a member of its chain or with [`set_session_attribute`].
    ///
    /// [`set_session_attribute`]: Self::set_session_attribute
    pub fn session_attribute(&self, id: SessionId, key: &str) -> Option<&Value> {
        self.sessions.get(id)?.values.get(key)
    }

    /// Sets or, with `None`, removes a value that all members of the session's chain can read. It stays until it is
    /// removed, a plugin sets the same key, or the session ends.
    pub fn set_session_attribute(
        &mut self,
        id: SessionId,
        key: &str,
        value: Option<Value>,
    ) -> Result<(), SessionAttributeError> {
        if key.starts_with("sandbar.") {
            return Err(SessionAttributeError::Denied);
        }
        let session = self.sessions.get_mut(id).ok_or(SessionAttributeError::NoSession)?;
        session.values.set(None, key, value).map_err(|TooMany| SessionAttributeError::TooMany)?;
        self.share_values(id);
        Ok(())
    }

    /// Lets what a seat's calls have set take effect, if the seat is a member's: a successor's waits until it has its
    /// place.
    pub(crate) fn take_changes(&mut self, id: InstanceId, seat: u32) {
        let instance = self.instances.get_mut(id);
        let Some(seat) = instance.and_then(|instance| instance.guest_mut().seats.get_mut(seat)) else { return };
        let owner = seat.owner;
        let Some(session) = self.sessions.get_mut(owner.session) else { return };
        if session.member(owner.member).is_some() {
            let changes = std::mem::take(&mut seat.changes);
            if changes.is_empty() {
                // It is new, and hears what there is.
                seat.values = session.values.clone();
                return;
            }
            changes.apply(&mut session.values, Some(owner.member));
            let bytes = session.values.bytes_of(Some(owner.member));
            seat.holdings.set(Quota::AttributeBytes, bytes as u64);
            self.share_values(owner.session);
        }
    }

    /// Nobody is to follow a member that is gone.
    pub(crate) fn clear_values(&mut self, id: SessionId, member: u32) {
        if self.sessions.get_mut(id).is_some_and(|session| session.values.clear(Some(member))) {
            self.share_values(id);
        }
    }

    /// Shows the session's values as they are now to its members.
    fn share_values(&mut self, id: SessionId) {
        let Some(session) = self.sessions.get(id) else { return };
        for member in session.members.iter().filter(|member| member.running()) {
            let instance = self.instances.get_mut(member.instance);
            if let Some(seat) = instance.and_then(|instance| instance.guest_mut().seats.get_mut(member.seat)) {
                seat.values = session.values.clone();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Setter = Some(1);
    const B: Setter = Some(2);

    #[test]
    fn the_last_to_set_a_value_has_it_and_it_goes_with_them() {
        let mut values = Values::default();
        values.set(A, "rate", Some(Value::Integer(1))).unwrap();
        values.set(B, "rate", Some(Value::Integer(2))).unwrap();
        values.set(A, "own", Some(Value::Boolean(true))).unwrap();
        values.set(A, "rate", None).unwrap();
        assert_eq!(values.get("rate"), Some(&Value::Integer(2)), "it is no longer A's to remove");
        assert!(values.clear(A) && !values.clear(A));
        assert_eq!(values.iter().collect::<Vec<_>>(), [("rate", &Value::Integer(2))]);
        values.set(B, "rate", None).unwrap();
        assert_eq!(values.get("rate"), None);
    }

    #[test]
    fn a_setter_can_fill_only_its_own_room() {
        let mut values = Values::default();
        for n in 0..MAX_COUNT {
            values.set(A, &n.to_string(), Some(Value::Boolean(true))).unwrap();
        }
        assert_eq!(values.set(A, "more", Some(Value::Boolean(true))), Err(TooMany));
        values.set(A, "3", Some(Value::Boolean(false))).unwrap();
        assert_eq!(values.set(B, "big", Some(Value::Bytes(vec![0; MAX_BYTES]))), Err(TooMany));
        values.set(B, "big", Some(Value::Bytes(vec![0; MAX_BYTES - 3]))).unwrap();
        assert_eq!(values.iter().count(), MAX_COUNT + 1);
    }

    #[test]
    fn a_call_sees_its_own_changes_and_others_do_not() {
        let (mut values, mut changes) = (Values::default(), Changes::default());
        values.set(A, "old", Some(Value::Integer(1))).unwrap();
        changes.set(&values, A, "new", Some(Value::Integer(2))).unwrap();
        changes.set(&values, A, "old", None).unwrap();
        changes.set(&values, A, "old", None).unwrap();
        changes.set(&values, A, "never", None).unwrap();
        assert_eq!(changes.0.len(), 2);
        assert_eq!((changes.get(&values, "new"), changes.get(&values, "old")), (Some(&Value::Integer(2)), None));
        assert_eq!((values.get("new"), values.get("old")), (None, Some(&Value::Integer(1))));
        changes.apply(&mut values, A);
        assert_eq!((values.get("new"), values.get("old")), (Some(&Value::Integer(2)), None));
    }

    #[test]
    fn changes_of_one_call_are_bounded_together() {
        let (values, mut changes) = (Values::default(), Changes::default());
        let refused = (0..100).filter(|n| changes.set(&values, A, &n.to_string(), Some(Value::Integer(*n))).is_err());
        assert_eq!(refused.count(), 100 - MAX_COUNT);
        assert_eq!(changes.0.len(), MAX_COUNT);
    }

    #[test]
    fn room_that_a_call_makes_is_there_for_what_it_sets_next() {
        let (mut values, mut changes) = (Values::default(), Changes::default());
        values.set(A, "a", Some(Value::Bytes(vec![0; MAX_BYTES - 1]))).unwrap();
        assert_eq!(changes.set(&values, A, "b", Some(Value::Bytes(vec![0; 2000]))), Err(TooMany));
        changes.set(&values, A, "a", None).unwrap();
        changes.set(&values, A, "b", Some(Value::Bytes(vec![0; 2000]))).unwrap();
        changes.apply(&mut values, A);
        assert_eq!(values.iter().count(), 1);
    }
}
