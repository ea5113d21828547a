"""What an approver is shown, what they are asked, and what their vote says: the same in every command."""
