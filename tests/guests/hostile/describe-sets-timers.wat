;; Sets timers of sessions while it describes itself.

(func $describe (result i32)
  (drop (call $description))
  (call $wake (i32.const 1))
  (i32.const 192))
