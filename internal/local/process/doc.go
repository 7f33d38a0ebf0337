// Package process starts and ends the operating-system processes of a local
// topology.
//
// What it promises:
//
//   - A child never outlives its parent. On Linux the kernel kills a child as
//     soon as the parent is gone, even if the parent was killed with SIGKILL
//     (parent-death signal). That signal is tied to the thread which forked,
//     not to the process, so all children are forked by one thread that lives
//     as long as the process does. Elsewhere nothing can be promised for a
//     parent that dies by SIGKILL.
//   - A child is the leader of a process group of its own. A Ctrl-C typed at
//     the terminal reaches only the parent, which can then end its children in
//     the right order.
//   - What a child writes to stdout and stderr is appended to one log file
//     (mode 0600), written by the child itself: no pipe that could fill up,
//     and nothing is lost when the parent dies.
//   - An exit is observed exactly once and described in one line: how it
//     ended, and the last thing it said.
//
// Secrets belong in [Spec.Env], never in [Spec.Args]: arguments are readable by
// every user of the machine.
//
// The package knows nothing about what it runs.
package process
