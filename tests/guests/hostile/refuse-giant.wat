;; Refuses its session with a megabyte of reasons.

(func $create (param $session i32) (result i32)
  (memory.fill (i32.const 131072) (i32.const 65) (i32.const 1000000))
  (i32.store8 (i32.const 16) (i32.const 1))
  (i32.store8 (i32.const 20) (i32.const 2))
  (i32.store (i32.const 24) (i32.const 131072))
  (i32.store (i32.const 28) (i32.const 1000000))
  (i32.const 16))
