;; Has a name that is no text.

(data $noise (i32.const 4096) "\ff\fe\80")

(func $describe (result i32)
  (drop (call $description))
  (i32.store (i32.const 192) (i32.const 4096))
  (i32.store (i32.const 196) (i32.const 3))
  (i32.const 192))
