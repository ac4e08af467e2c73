"""RQ3: do MLPs follow power laws, and where do they deviate? (claims 5, 6)"""
