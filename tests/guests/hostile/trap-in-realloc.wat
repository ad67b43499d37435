;; Traps when the host asks it for memory.

(func $realloc (param $old i32) (param $old-size i32) (param $align i32) (param $size i32) (result i32)
  (unreachable))
