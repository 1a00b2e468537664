// Package project has the kernel count what directories take, by project quotas, which ext4 and XFS have where they are mounted with prjquota
// (quotactl(2), mount(8)).
//
// A directory gets a project's number, which everything that is made below it inherits; what the project takes is then one system call, however
// many files it has. The number stands in the directory's inode and nowhere else. Limits aren't set. Who owns a file may give it another number,
// but not from within a user namespace: the count of others' files is theirs to falsify.
package project
