;; Has a name that would clear an operator's screen.

(data $noise (i32.const 4096) "\1b[2Jplugin")

(func $describe (result i32)
  (drop (call $description))
  (i32.store (i32.const 192) (i32.const 4096))
  (i32.store (i32.const 196) (i32.const 10))
  (i32.const 192))
