;; Never returns when it is offered a stream.

(func $bind (param $stream i32) (result i32)
  (loop $ever (br $ever))
  (unreachable))
