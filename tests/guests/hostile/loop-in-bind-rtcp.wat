;; Never returns when it is asked what it needs of RTCP.

(func $bind-rtcp (result i32)
  (loop $ever (br $ever))
  (unreachable))
