"""`kitectl smoke`: one message through a running Kite, each stage seen with its time. Changes nothing but a team of its own."""
