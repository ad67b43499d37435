;; Has its timer tick each nanosecond.
(func $wake (param $session i32)
  (call $wake-session (local.get $session) (i32.const 1) (i64.const 0) (i64.const 1)))
