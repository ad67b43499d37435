;; Traps while a session is opened.

(func $create (param $session i32) (result i32)
  (unreachable))
