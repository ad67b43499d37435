;; Traps when it is offered a stream.

(func $bind (param $stream i32) (result i32)
  (unreachable))
