;; Answers a question with text that is not in its memory.

(func $control (result i32)
  (i32.store8 (i32.const 160) (i32.const 0))
  (i32.store (i32.const 164) (i32.const -8))
  (i32.store (i32.const 168) (i32.const 100))
  (i32.const 160))
