;; Traps when it is asked what it needs of RTCP.

(func $bind-rtcp (result i32)
  (unreachable))
