;; Has no name.

(func $describe (result i32)
  (drop (call $description))
  (i32.store (i32.const 196) (i32.const 0))
  (i32.const 192))
