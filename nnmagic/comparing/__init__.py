"""Running a second network beside a traced one, and comparing the two call by call, whole."""
