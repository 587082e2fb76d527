// Package supervise starts the services that unit files declare, each as its
// own user in its own cgroup, keeps them running, and stops them in order.
//
// One goroutine owns each service. It feeds a pure state machine (machine.go)
// with what happens and carries out the one action that the machine answers.
package supervise
