;; Gives a handle that it never made.

(func $create (param $session i32) (result i32)
  (i32.store8 (i32.const 16) (i32.const 0))
  (i32.store (i32.const 20) (i32.const 999))
  (i32.const 16))
