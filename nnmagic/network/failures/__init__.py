"""Why a call failed: what it got against what it expects, and the code that called it."""
