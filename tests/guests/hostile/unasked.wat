;; Says that it has to do with nothing that there is, in bits that the contract does not have, and fails when it is asked.

(global $binds i32 (i32.const 240))

(func $bind-rtcp (result i32) (unreachable))
(func $bind (param $stream i32) (result i32) (unreachable))
(func $unbind (unreachable))
(func $packet (param $frame i32) (unreachable))
