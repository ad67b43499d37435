;; Has its timer tick at an interval that has no end, from a time that has passed.
(func $wake (param $session i32)
  (call $wake-session (local.get $session) (i32.const 1) (i64.const 0) (i64.const -1)))
